import matplotlib.pyplot as plt
fig, ax = plt.subplots(figsize=(0.6, 0.4), layout="constrained")
ax.set_title("a very long title " * 4)
plt.show()
print("end")
