"""Reads an HDR interval log (FILE) and prints the tag, the count and the largest value of each histogram, as JSON."""
import json, sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

into = HdrHistogram(1, 120_000_000, 2)
reader = HistogramLogReader(sys.argv[1], into)
found = {}
while (histogram := reader.get_next_interval_histogram()) is not None:
    found[histogram.get_tag()] = [histogram.get_total_count(), histogram.get_max_value()]
print(json.dumps(found))
