// SPDX-License-Identifier: Apache-2.0
// cuBLASLt, where the machine has it. Loaded, not linked: machines with only a driver have none. What is declared here
// is its stable C interface, of which three enumerators and six functions are used.
module;

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>

module berth.cuda;

namespace berth::cuda {
namespace {

constexpr int compute_f32 = 68, type_f32 = 0, type_bf16 = 14;  // CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF

using make_handle = int (*)(void**);
using make_operation = int (*)(void**, int compute, int scale);
using make_layout = int (*)(void**, int type, std::uint64_t rows, std::uint64_t columns, std::int64_t line);
using multiplication = int (*)(void* handle, void* operation, const void* alpha, const void* a, void* a_layout,
                               const void* b, void* b_layout, const void* beta, const void* c, void* c_layout, void* d,
                               void* d_layout, const void* algorithm, void* workspace, std::size_t workspace_size,
                               void* stream);
using destroy = int (*)(void*);

struct functions {
  make_handle handle = nullptr;
  make_operation operation = nullptr;
  make_layout layout = nullptr;
  multiplication multiply = nullptr;
  destroy drop_handle = nullptr, drop_operation = nullptr, drop_layout = nullptr;
  bool complete() const {
    return handle && operation && layout && multiply && drop_handle && drop_operation && drop_layout;
  }
};

functions load() {
  functions f;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    void* const library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) continue;
    const auto find = [library](auto& out, const char* symbol) {
      out = reinterpret_cast<std::remove_reference_t<decltype(out)>>(::dlsym(library, symbol));
    };
    find(f.handle, "cublasLtCreate");
    find(f.operation, "cublasLtMatmulDescCreate");
    find(f.layout, "cublasLtMatrixLayoutCreate");
    find(f.multiply, "cublasLtMatmul");
    find(f.drop_handle, "cublasLtDestroy");
    find(f.drop_operation, "cublasLtMatmulDescDestroy");
    find(f.drop_layout, "cublasLtMatrixLayoutDestroy");
    if (f.complete()) return f;
  }
  return {};
}

struct product {
  functions call;
  void *handle = nullptr, *operation = nullptr, *layout = nullptr;
};

void close(void* opened) {
  const std::unique_ptr<product> p(static_cast<product*>(opened));
  if (p->layout != nullptr) (void)p->call.drop_layout(p->layout);
  if (p->operation != nullptr) (void)p->call.drop_operation(p->operation);
  if (p->handle != nullptr) (void)p->call.drop_handle(p->handle);
}

void* open(std::size_t n) {
  auto* p = new (std::nothrow) product{load()};
  if (p == nullptr) return nullptr;
  int s = p->call.complete() ? p->call.handle(&p->handle) : 1;
  if (s == 0) s = p->call.operation(&p->operation, compute_f32, type_f32);
  if (s == 0) s = p->call.layout(&p->layout, type_bf16, n, n, static_cast<std::int64_t>(n));
  if (s == 0) return p;
  close(p);
  return nullptr;
}

int multiply(void* opened, const void* a, const void* b, void* c, void* workspace, std::size_t workspace_size,
             void* stream) {
  const auto& p = *static_cast<const product*>(opened);
  const float one = 1, zero = 0;
  return p.call.multiply(p.handle, p.operation, &one, a, p.layout, b, p.layout, &zero, c, p.layout, c, p.layout,
                         nullptr, workspace, workspace_size, stream);
}

}  // namespace

std::optional<matrix_library> load_matrix_library() {
  if (!load().complete()) return std::nullopt;
  return matrix_library{&open, &multiply, &close};
}

}  // namespace berth::cuda
