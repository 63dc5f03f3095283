import matplotlib.pyplot as plt
fig = plt.figure()
fig.canvas.mpl_connect("close_event", lambda e: print("closed"))
fig.canvas.mpl_connect("draw_event", lambda e: print("draw event"))
print("end")
