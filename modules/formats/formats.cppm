// SPDX-License-Identifier: Apache-2.0
// berth.formats: the only door to JSON and XML. Reads checkpoints, configs, maps and topologies; writes berth's
// formats.
export module berth.formats;

export import berth.model;
export import :json;
export import :module_tree_json;
export import :text_file;
export import :safetensors;
export import :index;
export import :checkpoint;
export import :conversion;
export import :module_pattern;
export import :quantization;
export import :dtype_rule;
export import :structure;
