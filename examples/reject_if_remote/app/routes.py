"""What can be asked of the server. A request is a dict with `host` and `path`; a response is a text."""


def handle(request):
    if request["path"] == "/health":
        return "ok"
    if request["path"] == "/admin/purge":
        return "purged"
    return "not found"
