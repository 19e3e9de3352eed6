// SPDX-License-Identifier: Apache-2.0
// Boost.JSON compiled into this library from its headers: no Boost library is needed at run time.
#include <boost/json/src.hpp>
