"""What runs a stage: its notebook, kernel, locks, and the record of the run.

It knows no stage's subject, and no other room than `project/` imports it.
"""

import sys

# jsonschema, which nbformat imports, would compile a grammar of addresses as it is imported: two
# seconds of every stage, for a check of them that no notebook needs. It goes without.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
