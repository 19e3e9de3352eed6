// SPDX-License-Identifier: Apache-2.0
// berth.formats: the only door to JSON and XML. Reads checkpoints, configs, maps and topologies; writes berth's
// formats.
export module berth.formats;

export import berth.exec;
export import berth.model;
export import berth.plan;
export import berth.topology;
export import :architecture;
export import :bitsandbytes;
export import :chain_json;
export import :checkpoint;
export import :conversion;
export import :dag_json;
export import :dtype_rule;
export import :index;
export import :json;
export import :model_file;
export import :model_sources;
export import :module_pattern;
export import :module_tree_json;
export import :nccl_xml;
export import :nvidia_smi;
export import :offload_index;
export import :p2p_bandwidth;
export import :plan_json;
export import :program_json;
export import :quantization;
export import :safetensors;
export import :safetensors_write;
export import :structure;
export import :text_file;
export import :topology_document;
export import :topology_file;
export import :topology_json;
export import :trace_json;
