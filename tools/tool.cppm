// SPDX-License-Identifier: Apache-2.0
// berth.tool: the parts of the berth command. Parts that import a backend or the runtime (load_summary, real_run,
// stand_in) are imported where they are used: every other unit would pay for them.
export module berth.tool;

export import :alternatives;
export import :commands;
export import :dag_plan;
export import :device_list;
export import :explain;
export import :failure;
export import :gpus;
export import :html;
export import :input;
export import :int8_checkpoint;
export import :limits;
export import :load;
export import :machine;
export import :memory_chart;
export import :output;
export import :peer_plan;
export import :plan_file;
export import :plan_table;
export import :progress;
export import :report_error;
export import :report_page;
export import :report_table;
export import :session;
export import :simulation;
export import :strategy_choice;
export import :timeline;
