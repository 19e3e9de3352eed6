// SPDX-License-Identifier: Apache-2.0
// What to do instead where the default of int8 models, one device, is too small.
module;

export module berth.tool:alternatives;

import berth;
import :session;
import :strategy_choice;

export namespace tool {

/// Completes the refusal `e` of a plan on the current device: by how much it does not fit, and which plan of the same
/// weights does - on this machine, or with more devices of the kind. Other errors come back unchanged.
berth::error with_alternatives(const session& s, const strategy_choice& choice, const berth::error& e);

}  // namespace tool
