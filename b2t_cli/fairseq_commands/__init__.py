"""fairseq's own commands with this plugin loaded: what ``b2t train`` and ``b2t generate`` do."""

from b2t_common.memory import keep_freed_memory
from b2t_common.threads import let_waiting_threads_sleep

# Before PyTorch is imported, which reads the setting then.
let_waiting_threads_sleep()
keep_freed_memory()

# Before fairseq: on import fairseq logs a line, which would configure logging for the whole program.
import b2t_fairseq  # noqa: E402, F401
