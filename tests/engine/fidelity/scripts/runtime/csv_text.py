import csv, io
f = io.StringIO()
csv.writer(f).writerow([1, "a,b", 'q"'])
print(f.getvalue())
