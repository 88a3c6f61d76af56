"""In these tests the shapes in the annotations of `vlpnb.nn` are checked at run time."""

import sys

from jaxtyping import install_import_hook

if not any(name.startswith("vlpnb.nn.") for name in sys.modules):
    install_import_hook("vlpnb.nn", "beartype.beartype")
