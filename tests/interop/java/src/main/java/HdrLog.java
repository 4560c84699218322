import java.io.File;
import java.util.TreeMap;
import org.HdrHistogram.*;

/** Reads an HDR log with the standard reader: a line a tag, "TAG COUNT P50 P99 MAX"; "-" = without a tag. Argument: the file. */
public final class HdrLog {
  public static void main(String[] args) throws Exception {
    var all = new TreeMap<String, Histogram>();
    try (var reader = new HistogramLogReader(new File(args[0]))) {
      while (reader.hasNext()) {
        if (!(reader.nextIntervalHistogram() instanceof Histogram next)) {
          throw new IllegalStateException("an interval that is no histogram of whole numbers");
        }
        var sum = all.computeIfAbsent(next.getTag() == null ? "-" : next.getTag(), tag -> new Histogram(3));
        sum.setAutoResize(true);
        sum.add(next);
      }
    }
    all.forEach((tag, h) -> System.out.println(
        tag + " " + h.getTotalCount() + " " + h.getValueAtPercentile(50) + " " + h.getValueAtPercentile(99) + " " + h.getMaxValue()));
  }
}
