"""These tests need signals that kill, and limits on files: no Windows."""

import os

collect_ignore_glob = ["*"] if os.name == "nt" else []
