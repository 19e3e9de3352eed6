#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads berth.load/1 and fails unless the process took the memory that its plan predicts: max(1 %, 64 MiB)."""
import json
import sys

resident = json.load(sys.stdin)["resident"]
off = abs(resident["peak"] - resident["predicted"])
limit = max(resident["predicted"] // 100, 64 << 20)
print(f"peak {resident['peak'] >> 20} MiB, predicted {resident['predicted'] >> 20} MiB, "
      f"{off >> 20} MiB apart: {'within' if off <= limit else 'beyond'} {limit >> 20} MiB")
sys.exit(0 if off <= limit else 1)
