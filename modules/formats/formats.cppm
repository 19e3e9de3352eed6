// SPDX-License-Identifier: Apache-2.0
// berth.formats: the only door to JSON and XML. Reads checkpoints, configs, maps and topologies; writes berth's
// formats.
export module berth.formats;

export import berth.model;
export import :json;
export import :architecture;
export import :module_tree_json;
