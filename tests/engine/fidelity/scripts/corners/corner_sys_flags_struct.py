import sys
print(type(sys.flags), len(sys.flags), sys.flags[:5], isinstance(sys.flags, tuple), sys.flags.utf8_mode, sys.flags.gil, sys.flags.context_aware_warnings if hasattr(sys.flags, "context_aware_warnings") else None)
print(sys.flags.n_fields, sys.flags.n_sequence_fields)
