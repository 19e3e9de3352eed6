// SPDX-License-Identifier: Apache-2.0
// berth.compat: the device maps of accelerate 1.15.0 and transformers 5.17.0, bit for bit, with their known defects.
export module berth.compat;

export import berth.model;
export import :number;
export import :device_map;
export import :size_string;
export import :max_memory;
export import :sizes;
export import :ties;
export import :layer_size;
export import :infer;
export import :expand;
export import :bnb;
