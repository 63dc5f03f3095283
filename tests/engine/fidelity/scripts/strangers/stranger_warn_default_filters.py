import warnings, sys
for f in warnings.filters:
    print(f)
print(sys.warnoptions, sys.flags.dev_mode)
