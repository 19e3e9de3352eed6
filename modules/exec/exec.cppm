// SPDX-License-Identifier: Apache-2.0
// berth.exec: how a plan is carried out. A plan becomes programs, a machine runs them, a trace says what happened.
export module berth.exec;

export import :work_time;
export import :handles;
export import :requests;
export import :activity;
export import :machine;
export import :trace;
export import :program;
export import :layout;
export import :compile;
export import :verify;
export import :run_marks;
export import :report;
