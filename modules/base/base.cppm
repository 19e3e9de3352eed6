// SPDX-License-Identifier: Apache-2.0
// berth.base: what every other module stands on. No I/O, clock, thread or allocation of its own.
export module berth.base;

export import :text;
export import :result;
export import :units;
export import :dtype;
