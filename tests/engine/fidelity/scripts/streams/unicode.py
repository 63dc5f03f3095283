print("héllo wörld 日本語 🐧 \u200b \x00 end")
