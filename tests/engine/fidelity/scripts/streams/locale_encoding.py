import locale, sys
print(locale.getpreferredencoding(), sys.getfilesystemencoding(), sys.getdefaultencoding())
