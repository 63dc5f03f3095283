import matplotlib.pyplot as plt
plt.plot([1, 2])
plt.title("\u1200 \U0001F600")
print("end")
