"""Native lines are dropped by prefix; everything else, from C and from Python, comes through in full."""

import subprocess
import sys

CODE = """
import os, subprocess, sys
from t5x_style import logs
with logs.without_native_lines("normalizer.cc("):
    os.write(2, b"normalizer.cc(51) LOG(INFO) nothing\\n")
    os.write(2, b"native warning\\n")
    sys.stderr.write("from python\\n")
    subprocess.run([sys.executable, "-c", "import os; os.write(2, b'normalizer.cc(51) x\\\\nfrom a child\\\\n')"])
sys.stderr.write("after\\n")
os.write(2, b"normalizer.cc(51) after the block\\n")
"""


def test_only_the_named_lines_go():
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    lines = sorted(result.stderr.splitlines())
    assert lines == ["after", "from a child", "from python", "native warning", "normalizer.cc(51) after the block"]
