// SPDX-License-Identifier: Apache-2.0
// berth.exec: how a plan is carried out. A plan becomes programs, a machine runs them, a trace says what happened.
export module berth.exec;

// Machines: what they take and tell.
export import :work_time;
export import :handles;
export import :requests;
export import :activity;
export import :storage;
export import :transform;
export import :machine;
export import :trace;
// Programs: a plan as operations, and their proof.
export import :program;
export import :layout;
export import :compile;
export import :verify;
// Running them.
export import :runner;
export import :execution;
export import :run_marks;
export import :report;
// Machines around machines.
export import :bounds;
export import :forwarded;
export import :limited;
export import :counted;
export import :traced;
export import :fault_schedule;
export import :fault_injector;
export import :faulty;
export import :joined_queue;
export import :joined_lanes;
export import :joined;
