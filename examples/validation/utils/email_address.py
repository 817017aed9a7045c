# utils/email_address.py
def validateEmail(address):
    name, _, domain = address.partition("@")
    return name != "" and "@" not in domain and "." in domain
