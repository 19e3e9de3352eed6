// SPDX-License-Identifier: Apache-2.0
// berth.runtime: real weights for plans. What lies in the memory of every atom, where it comes from, and how it gets
// there.
export module berth.runtime;

export import berth.exec;
export import :image;
export import :image_storage;
export import :offload;
export import :cpu_transforms;
export import :load_report;
export import :materialise_options;
export import :read_plan;
export import :weight_files;
export import :reader_pool;
export import :slots;
export import :load_memory;
export import :load_watch;
export import :slot_transfers;
export import :load_check;
export import :loader;
export import :materialise;
