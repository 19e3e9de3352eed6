// SPDX-License-Identifier: Apache-2.0
// berth: what users import. Decides where every tensor of a model lives and runs.
export module berth;

export import berth.base;
export import berth.model;
export import berth.topology;
export import berth.plan;
export import berth.exec;
