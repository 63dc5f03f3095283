raise ValueError("\udc80 \ud800")
