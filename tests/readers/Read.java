import java.nio.ByteBuffer;
import java.util.Base64;
import org.HdrHistogram.EncodableHistogram;
import org.HdrHistogram.Histogram;
import org.HdrHistogram.HistogramLogReader;

/** Reads exports of certctl-bench with HdrHistogram: {@code log FILE}, or {@code percentiles BASE64 RATIO}. */
public class Read {
    public static void main(String[] arguments) throws Exception {
        if (arguments[0].equals("log")) {
            log(arguments[1]);
        } else {
            ByteBuffer bytes = ByteBuffer.wrap(Base64.getDecoder().decode(arguments[1]));
            Histogram histogram = Histogram.decodeFromCompressedByteBuffer(bytes, 0);
            histogram.outputPercentileDistribution(System.out, 5, Double.parseDouble(arguments[2]));
        }
    }

    /** Prints a line for the start, and one for each interval. */
    private static void log(String path) throws Exception {
        HistogramLogReader reader = new HistogramLogReader(path);
        EncodableHistogram next;
        while ((next = reader.nextIntervalHistogram()) != null) {
            Histogram found = (Histogram) next;
            System.out.printf("%s %d %d %d %d %d %d%n", found.getTag(), found.getStartTimeStamp(),
                found.getEndTimeStamp(), found.getTotalCount(), found.getValueAtPercentile(50),
                found.getValueAtPercentile(95), found.getMaxValue());
        }
        System.out.printf("start %.0f%n", reader.getStartTimeSec());
    }
}
