// SPDX-License-Identifier: Apache-2.0
// berth.plan: budgets, strategies, plans and the proof that a plan holds. Pure: no I/O, clock, thread or randomness.
export module berth.plan;

export import berth.model;
export import berth.topology;
export import :problem;
export import :interval_cover;
export import :balance;
export import :packing;
export import :fill;
export import :strategy;
export import :strategies;
export import :manual;
export import :combinators;
export import :budgets;
export import :plan_value;
export import :check;
export import :device_map;
export import :place;
export import :dag;
export import :dag_latency;
