// SPDX-License-Identifier: Apache-2.0
module;

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

module berth.formats;

namespace berth {
namespace {

failure cannot_write(std::string_view path, int code, bytes needed = 0) {
  text<416> detail("cannot be written: ");
  detail.append(std::strerror(code));
  if (code == ENOSPC || code == EFBIG || code == EDQUOT)
    detail.append("; ").append(needed).append(" bytes are needed in all");
  return fail(errc::unwritable, path, detail, needed);
}

/// Order of the data: the widest elements first, so that all lie aligned, then by name.
std::vector<std::size_t> data_order(std::span<const tensor_outline> tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    const auto x = bits_of(tensors[a].type), y = bits_of(tensors[b].type);
    return x != y ? x > y : tensors[a].name < tensors[b].name;
  });
  return order;
}

result<done> check_names(std::span<const tensor_outline> tensors, std::string_view path) {
  std::vector<std::string_view> names;
  for (const auto& t : tensors) {
    if (t.name.empty() || t.name == "__metadata__")
      return fail(errc::invalid_argument, path, "a tensor must have a name, and not \"__metadata__\"");
    names.push_back(t.name);
  }
  std::ranges::sort(names);
  if (const auto twice = std::ranges::adjacent_find(names); twice != names.end())
    return fail(errc::invalid_argument, *twice, "two tensors of one file have this name");
  return done{};
}

}  // namespace

result<bytes> size_of(const tensor_outline& t) {
  const auto elements = element_count(t.shape);
  const auto bits = elements ? checked_mul(*elements, bits_of(t.type)) : std::nullopt;
  if (!bits) return fail(errc::overflow, t.name, "the tensor has too many elements to count its bytes");
  if (*bits % 8 != 0) return fail(errc::invalid_argument, t.name, "the tensor does not fill whole bytes");
  return *bits / 8;
}

result<safetensors_writer> safetensors_writer::create(const std::string& path, std::span<const tensor_outline> tensors,
                                                      std::span<const std::pair<std::string, std::string>> metadata) {
  if (const auto named = check_names(tensors, path); !named) return named.propagate();
  // The process number keeps two writers of one file apart.
  safetensors_writer out(path, path + ".new-" + std::to_string(::getpid()));
  out.places_.resize(tensors.size());

  json::object header;
  if (!metadata.empty()) {
    json::object texts;
    for (const auto& [key, value] : metadata) texts.push_back({key, value});
    header.push_back({"__metadata__", std::move(texts)});
  }
  bytes end = 0;
  for (const auto i : data_order(tensors)) {
    const auto& t = tensors[i];
    const auto length = size_of(t);
    if (!length) return length.propagate();
    const auto next = checked_add(end, *length);
    if (!next) return fail(errc::overflow, path, "the file would have more bytes than can be counted");
    out.places_[i] = {t.name, end, *length, 0};
    json::array shape;
    for (const auto d : t.shape) shape.emplace_back(d);
    header.push_back({t.name, json::object{{"dtype", info_of(t.type).safetensors},
                                           {"shape", std::move(shape)},
                                           {"data_offsets", json::array{end, *next}}}});
    end = *next;
  }
  auto start = json::write(header);
  start.resize(round_up(start.size(), 8), ' ');
  if (start.size() > max_safetensors_header)
    return fail(errc::capacity, path, "the header would be longer than readers accept; write more than one file",
                start.size(), max_safetensors_header);
  const auto length = std::uint64_t{start.size()};
  std::string opening;
  for (int i = 0; i < 8; ++i) opening += static_cast<char>(length >> (8 * i) & 0xff);
  opening += start;
  for (auto& p : out.places_) p.offset += opening.size();
  out.file_size_ = opening.size() + end;

  out.file_ = ::open(out.temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (out.file_ < 0) return cannot_write(path, errno);
  // Some file systems cannot reserve room; then a full disk is found while writing.
  const int refused = ::posix_fallocate(out.file_, 0, static_cast<off_t>(out.file_size_));
  if (refused == ENOSPC || refused == EFBIG || refused == EDQUOT) return cannot_write(path, refused, out.file_size_);
  if (const auto written = out.write_at(std::as_bytes(std::span(opening)), 0); !written) return written.propagate();
  return out;
}

safetensors_writer::safetensors_writer(safetensors_writer&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      file_(std::exchange(other.file_, -1)),
      file_size_(other.file_size_),
      places_(std::move(other.places_)) {}

safetensors_writer& safetensors_writer::operator=(safetensors_writer&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(file_, other.file_);
  std::swap(file_size_, other.file_size_);
  std::swap(places_, other.places_);
  return *this;
}

safetensors_writer::~safetensors_writer() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

result<done> safetensors_writer::write_at(std::span<const std::byte> data, bytes offset) {
  for (std::size_t at = 0; at < data.size();) {
    const auto n = ::pwrite(file_, data.data() + at, data.size() - at, static_cast<off_t>(offset + at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return cannot_write(path_, n < 0 ? errno : ENOSPC, file_size_);
    at += static_cast<std::size_t>(n);
  }
  return done{};
}

result<done> safetensors_writer::write(std::size_t index, bytes offset, std::span<const std::byte> data) {
  if (file_ < 0) return fail(errc::invalid_argument, path_, "the file is finished");
  if (index >= places_.size()) return fail(errc::invalid_argument, path_, "no such tensor in this file");
  auto& p = places_[index];
  if (offset > p.length || data.size() > p.length - offset)
    return fail(errc::invalid_argument, p.name, "bytes outside the tensor", offset + data.size(), p.length);
  if (const auto written = write_at(data, p.offset + offset); !written) return written.propagate();
  p.written += data.size();
  return done{};
}

result<done> safetensors_writer::finish() {
  if (file_ < 0) return fail(errc::invalid_argument, path_, "the file is finished");
  for (const auto& p : places_)
    if (p.written != p.length)
      return fail(errc::invalid_argument, p.name, "not every byte of the tensor was written once", p.length, p.written);
  // Without this a power cut could leave the name with nothing behind it.
  if (::fsync(file_) != 0 && errno != EINVAL) return cannot_write(path_, errno, file_size_);
  const int closed = ::close(std::exchange(file_, -1));
  if (closed != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int code = errno;
    ::unlink(temporary_.c_str());
    return cannot_write(path_, code, file_size_);
  }
  return done{};
}

std::string shard_name(std::size_t number, std::size_t count) {
  if (count <= 1) return "model.safetensors";
  const auto five = [](std::size_t n) {
    auto digits = std::to_string(n);
    return digits.size() < 5 ? std::string(5 - digits.size(), '0') + digits : digits;
  };
  return "model-" + five(number + 1) + "-of-" + five(count) + ".safetensors";
}

std::string write_index(std::vector<std::pair<std::string, std::string>> shard_of_tensor, bytes total) {
  std::ranges::sort(shard_of_tensor);
  json::object map;
  for (auto& [tensor, shard] : shard_of_tensor) map.push_back({std::move(tensor), std::move(shard)});
  const json::object document{{"metadata", json::object{{"total_size", total}}}, {"weight_map", std::move(map)}};
  return json::write(document, 2) + "\n";
}

}  // namespace berth
