// SPDX-License-Identifier: Apache-2.0
module;

#include <string>
#include <string_view>

export module berth.tool:plan_file;

import berth;
import berth.formats;

export namespace tool {

/// A plan out of text, proved: errors are those of reading it, and `invalid_plan` with the first thing that `check`
/// finds. `what` names the text.
berth::result<berth::plan_document> checked_plan(std::string_view text, std::string_view what);

/// The same from a file, or from standard input for "-".
berth::result<berth::plan_document> checked_plan_file(const std::string& path);

/// How a model is another one than a plan was made for, in a sentence: the first part of the plan that it does not have
/// or that has another size, as far as names and sizes tell.
std::string difference(const berth::plan& p, const berth::loaded_model& m);

}  // namespace tool
