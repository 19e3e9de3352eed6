// SPDX-License-Identifier: Apache-2.0
// berth.model: what is placed. Module tree (names, tensors, ties), where tensors come from, and the chain of atoms.
export module berth.model;

export import berth.base;
export import :tree;
export import :tree_builder;
export import :sources;
export import :workload;
export import :precision;
export import :chain;
export import :derive;
export import :cache;
export import :layer;
export import :costs;
