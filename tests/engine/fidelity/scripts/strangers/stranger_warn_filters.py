import warnings
warnings.filterwarnings("ignore", message="skip.*")
warnings.filterwarnings("error", category=FutureWarning)
warnings.filterwarnings("always", category=ImportWarning)
for i in range(2):
    warnings.warn("skip me")
    warnings.warn("keep me")
    warnings.warn("import", ImportWarning)
    warnings.warn("pending", PendingDeprecationWarning)
print(warnings.filters[:3])
warnings.warn("boom", FutureWarning)
