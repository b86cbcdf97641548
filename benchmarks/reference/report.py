"""Reference of `report`: one HTML document through WeasyPrint as anybody would call it."""

import sys

import weasyprint

weasyprint.HTML(filename=sys.argv[1]).write_pdf(sys.argv[2])
