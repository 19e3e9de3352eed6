// SPDX-License-Identifier: Apache-2.0
// berth.tool: the parts of the berth command.
export module berth.tool;

export import :commands;
export import :dag_plan;
export import :device_list;
export import :explain;
export import :failure;
export import :html;
export import :input;
export import :load;
export import :machine;
export import :memory_chart;
export import :output;
export import :peer_plan;
export import :plan_table;
export import :progress;
export import :report_error;
export import :report_page;
export import :report_table;
export import :session;
export import :strategy_choice;
export import :timeline;
