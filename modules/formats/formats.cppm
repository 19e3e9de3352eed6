// SPDX-License-Identifier: Apache-2.0
// berth.formats: the only door to JSON and XML. Reads checkpoints, configs, maps and topologies; writes berth's
// formats.
export module berth.formats;

export import berth.model;
export import berth.topology;
export import :json;
export import :module_tree_json;
export import :topology_document;
export import :topology_json;
export import :nvidia_smi;
export import :nccl_xml;
export import :p2p_bandwidth;
export import :topology_file;
export import :text_file;
export import :safetensors;
export import :index;
export import :checkpoint;
export import :conversion;
export import :module_pattern;
export import :quantization;
export import :dtype_rule;
