// SPDX-License-Identifier: Apache-2.0
export module berth.cuda;

export import :runtime_table;
export import :errors;
export import :machine_options;
export import :graph;
export import :machine;
export import :nvml_table;
export import :detect;
export import :kernel_table;
export import :transforms;
export import :measure;
