// SPDX-License-Identifier: Apache-2.0
// berth.host: the machine this program runs on, without its accelerators, and a machine of its memory and threads.
export module berth.host;

export import berth.topology;
export import :facts;
export import :detect;
export import :measure;
export import :machine;
