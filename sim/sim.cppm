// SPDX-License-Identifier: Apache-2.0
// berth.sim: a machine with virtual time. Engines, links, memory and failures without a GPU, to the picosecond.
export module berth.sim;

export import :flows;
export import :event_queue;
export import :simulator;
export import :contents;
export import :machine;
