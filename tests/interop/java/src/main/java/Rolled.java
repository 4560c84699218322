import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Fills a topic of small segments: arguments broker and topic. */
public final class Rolled {
  public static void main(String[] args) throws Exception {
    Map<String, Object> c = Map.of("bootstrap.servers", args[0], "linger.ms", 5);
    try (Admin a = Admin.create(c)) {
      Map<String, String> configs = Map.of("segment.bytes", "1048576", "index.interval.bytes", "4096", "retention.ms", "-1");
      a.createTopics(List.of(new NewTopic(args[1], 1, (short) 1).configs(configs))).all().get();
    }
    Random random = new Random(1);
    try (KafkaProducer<byte[], byte[]> p = new KafkaProducer<>(c, new ByteArraySerializer(), new ByteArraySerializer())) {
      for (int i = 0; i < 10_000; i++) {
        byte[] value = new byte[500 + random.nextInt(500)];
        random.nextBytes(value);
        p.send(new ProducerRecord<>(args[1], 0, 1_700_000_000_000L + i * 10, null, value));
      }
    }
  }
}
