// SPDX-License-Identifier: Apache-2.0
module;

#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

module berth.formats;

namespace berth {
namespace {

struct signature {
  std::string_view begins_with;
  std::string_view is;
};

/// Files that are no text, by their first bytes.
constexpr std::array<signature, 7> binaries{{{"BZh", "a bzip2 archive (.tar.bz2 of hwloc's gather tool?)"},
                                             {"\x1f\x8b", "a gzip archive"},
                                             {"\xfd"
                                              "7zXZ",
                                              "an xz archive"},
                                             {"(\xb5/\xfd", "a zstd archive"},
                                             {"PK\x03\x04", "a zip archive"},
                                             {"\x7f"
                                              "ELF",
                                              "a program"},
                                             {"\x89PNG", "a picture"}}};

/// Texts that describe machines in ways berth does not read, by a phrase near their beginning.
constexpr std::array<signature, 7> other_texts{
    {{"Machine (", "hwloc's console output (lstopo): it lists the host's objects without links between GPUs"},
     {"version https://git-lfs", "a git-LFS pointer, not the file itself; run \"git lfs pull\""},
     {"| NVIDIA-SMI", "nvidia-smi's summary: it has no links"},
     {"==NVSMI LOG==", "\"nvidia-smi -q\": it has no links between GPUs"},
     {"GPU 0: ", "\"nvidia-smi -L\": it has no links"},
     {"ROCm System Management Interface", "rocm-smi's output, which this version does not read"},
     {"NUMANode L#", "hwloc's console output (lstopo): it lists the host's objects without links between GPUs"}}};

constexpr std::string_view accepted =
    "; give berth.topology/1 JSON, the output of \"nvidia-smi topo -m\", an NCCL or RCCL topology XML, or the output "
    "of "
    "p2pBandwidthLatencyTest";

failure refuse(std::string_view what, std::string_view is) {
  return fail(errc::unsupported, what, berth::text<416>("is ").append(is).append(accepted));
}

bool names_a_gpu(std::string_view s) {
  for (auto at = s.find("GPU"); at != std::string_view::npos; at = s.find("GPU", at + 1))
    if (at + 3 < s.size() && s[at + 3] >= '0' && s[at + 3] <= '9') return true;
  return false;
}

bool contains(std::string_view s, std::string_view part) { return s.find(part) != std::string_view::npos; }

}  // namespace

result<topology_document> read_topology(std::string_view text, std::string_view what, const topology_options& options) {
  constexpr std::string_view bom = "\xef\xbb\xbf";
  for (const auto& b : binaries)
    if (text.substr(0, b.begins_with.size()) == b.begins_with) return refuse(what, b.is);
  if (text.substr(0, bom.size()) == bom) text.remove_prefix(bom.size());
  if (text.substr(0, 4096).find('\0') != std::string_view::npos) return refuse(what, "binary data");
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return fail(errc::malformed, what, "the file is empty");
  if (text[begin] == '{' || (text[begin] == '[' && !names_a_gpu(text))) {
    const auto document = json::parse(text, what, {.max_depth = 16});
    if (!document) return document.propagate();
    return read_topology_json(*document, what);
  }
  if (text[begin] == '<') return read_nccl_xml(text, what, options);
  if (contains(text, "p2pBandwidthLatencyTest") || contains(text, "Bandwidth Matrix (GB/s)") ||
      contains(text, "Matrix (GB/s)"))
    return read_p2p_bandwidth(text, what, options);
  for (const auto& t : other_texts)
    if (contains(text.substr(0, 4096), t.begins_with)) return refuse(what, t.is);
  if (names_a_gpu(text)) return read_nvidia_smi(text, what, options);
  return fail(errc::unknown_format, what, berth::text<416>("is no topology that berth knows").append(accepted));
}

}  // namespace berth
