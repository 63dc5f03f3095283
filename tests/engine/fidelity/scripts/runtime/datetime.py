import datetime
print(datetime.date(2024, 2, 29), datetime.timedelta(days=1, seconds=5), repr(datetime.datetime(2020, 1, 1)))
