import locale, time, os
print(locale.getlocale(), locale.getpreferredencoding(), time.tzname, time.timezone, os.environ.get("TZ"))
print(time.strftime("%A %d %B", time.gmtime(0)), locale.setlocale(locale.LC_ALL), f"{1234567.891:n}")
locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
