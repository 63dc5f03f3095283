import sys
try:
    1 / 0
except ZeroDivisionError:
    tb = sys.exc_info()[2]
    print(tb.tb_frame.f_code.co_name, tb.tb_next, tb.tb_lineno)
