#!/usr/bin/env python3
"""weights-server.py FOLDER PORT-FILE: serves files with ranges, badly where a test wants it, on a free
port of the loopback address. SPDX-License-Identifier: MIT

/cut/N/NAME breaks off after N bytes of each answer; /short/NAME has only the first half; /page/NAME is a
page; /whole/NAME knows no ranges; /sum/NAME sends a SHA-256 that is another file's.
"""
import http.server
import os
import re
import sys

folder, port_file = sys.argv[1:]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        print(self.command, self.path, self.headers.get("Range"), file=sys.stderr, flush=True)

    def do_GET(self):
        way, _, name = self.path.strip("/").rpartition("/")
        try:
            data = open(os.path.join(folder, name), "rb").read()
        except OSError:
            return self.send_error(404)
        if way == "page":
            data = b"<!doctype html><title>Please log in</title>"
        if way == "short":
            data = data[: len(data) // 2]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted and way != "whole" else 0
        if first >= len(data):
            return self.send_error(416)
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        if way == "sum":
            self.send_header("X-Linked-ETag", '"' + 64 * "0" + '"')
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        most = int(way[4:]) if way.startswith("cut/") else len(data)
        self.wfile.write(data[first : first + most])


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(port_file + ".new", "w") as f:
    print(server.server_port, file=f)
os.rename(port_file + ".new", port_file)
server.serve_forever()
