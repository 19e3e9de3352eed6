// SPDX-License-Identifier: Apache-2.0
// berth.topology: what a machine room is made of: devices, shared segments, routes over them. Describes, never runs.
export module berth.topology;

export import berth.base;
export import :ids;
export import :device;
export import :segment;
export import :view;
export import :owners;
export import :gpu_specs;
export import :boxes;
export import :layout;
export import :presets;
