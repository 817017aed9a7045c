# utils/names.py
def getFoo(names):
    return ", ".join(names)
