import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/** What every Java test needs: one line a test, clients with short pauses, topics of this run's own, and a way to wait for a condition. */
class Harness {
  interface Test {
    void run() throws Exception;
  }

  /** Longest a condition may take, and longest a test may take, seconds: far more than a busy machine needs. */
  private static final int CONDITION_S = 60, TEST_S = 150;
  /** Once so many tests failed, a condition has less time: the broker is broken, and whoever waits wants to know. */
  private static final int FAILED_MANY = 3, CONDITION_THEN_S = 10;
  private static final String RUN = Long.toHexString(System.nanoTime());
  static String broker;
  static volatile int passed, failed;

  /** A test that runs beside others; `finish` waits for it and prints its line. */
  static final class Running {
    private final String name;
    private final Thread thread;
    private final long began = System.nanoTime();
    private volatile Throwable thrown;
    private volatile long took;

    private Running(String name, Test test) {
      this.name = name;
      thread = new Thread(() -> {
        try {
          test.run();
        } catch (Throwable t) {
          thrown = t;
        }
        took = System.nanoTime() - began;
      }, "test");
      thread.setDaemon(true);
      thread.start();
    }

    void finish() {
      try {
        thread.join(TEST_S * 1000L);
      } catch (InterruptedException e) {
        thrown = e;
      }
      if (thread.isAlive()) {
        thrown = new AssertionError("not done after " + TEST_S + " s");
        thrown.setStackTrace(thread.getStackTrace());
        thread.interrupt();
      }
      if (thrown == null) {
        passed++;
        System.out.printf("ok      %s (%d ms)%n", name, took / 1_000_000);
      } else {
        failed++;
        System.out.println("FAILED  " + name + ": " + thrown.toString().lines().findFirst().orElse(""));
        thrown.printStackTrace(System.out);
      }
    }
  }

  /** Begins a test that mostly waits. */
  static Running begin(String name, Test test) {
    return new Running(name, test);
  }

  static void test(String name, Test test) {
    begin(name, test).finish();
  }

  static void equal(Object wanted, Object found, String what) {
    if (!Objects.equals(wanted, found)) throw new AssertionError(what + ": wanted " + wanted + ", found " + found);
  }

  static void check(boolean holds, String what) {
    if (!holds) throw new AssertionError(what);
  }

  /** Waits until `found` equals `wanted`; what the call throws counts as "not yet". */
  static void eventually(Object wanted, String what, Callable<?> found) throws Exception {
    int seconds = failed < FAILED_MANY ? CONDITION_S : CONDITION_THEN_S;
    long deadline = System.nanoTime() + seconds * 1_000_000_000L;
    Object last = null;
    while (true) {
      try {
        last = found.call();
        if (Objects.equals(wanted, last)) return;
      } catch (InterruptedException e) {
        throw e;
      } catch (Exception e) {
        last = e;
      }
      if (System.nanoTime() > deadline) throw new AssertionError(what + ": wanted " + wanted + " within " + seconds + " s, found at last " + last);
      Thread.sleep(10);
    }
  }

  /** The cause that the future fails with must be of this class. */
  static void refused(Class<? extends Throwable> wanted, String what, Future<?> future) throws Exception {
    try {
      Object got = future.get();
      throw new AssertionError(what + " was not refused, but gave " + got);
    } catch (ExecutionException e) {
      if (e.getCause().getClass() != wanted) throw new AssertionError(what + ": wanted " + wanted.getSimpleName() + ", found " + e.getCause(), e);
    }
  }

  /** The call must throw exactly this class. */
  static <T extends Throwable> T thrown(Class<T> wanted, String what, Test call) {
    try {
      call.run();
    } catch (Throwable t) {
      if (t.getClass() != wanted) throw new AssertionError(what + ": wanted " + wanted.getSimpleName() + ", found " + t, t);
      return wanted.cast(t);
    }
    throw new AssertionError(what + ": nothing was thrown");
  }

  /** A name of this run's own, so that the tests can run twice against one broker. */
  static String topic(String name) {
    return "java-" + name + "-" + RUN;
  }

  static TopicPartition tp(String topic, int partition) {
    return new TopicPartition(topic, partition);
  }

  static List<TopicPartition> partitions(String topic, int count) {
    List<TopicPartition> all = new ArrayList<>();
    for (int i = 0; i < count; i++) all.add(tp(topic, i));
    return all;
  }

  static Map<String, Object> base(Object... settings) {
    Map<String, Object> c = new HashMap<>();
    c.put("bootstrap.servers", broker);
    c.put("request.timeout.ms", 15000);
    c.put("default.api.timeout.ms", 30000);
    c.put("reconnect.backoff.ms", 10);
    c.put("retry.backoff.ms", 20);
    for (int i = 0; i < settings.length; i += 2) c.put((String) settings[i], settings[i + 1]);
    return c;
  }

  static KafkaProducer<byte[], byte[]> producer(Object... settings) {
    Map<String, Object> c = base("delivery.timeout.ms", 30000, "linger.ms", 2);
    for (int i = 0; i < settings.length; i += 2) c.put((String) settings[i], settings[i + 1]);
    return new KafkaProducer<>(c, new ByteArraySerializer(), new ByteArraySerializer());
  }

  /** Without a group unless the settings name one. */
  static KafkaConsumer<byte[], byte[]> consumer(Object... settings) {
    Map<String, Object> c = base("enable.auto.commit", false, "auto.offset.reset", "none", "fetch.max.wait.ms", 100);
    for (int i = 0; i < settings.length; i += 2) c.put((String) settings[i], settings[i + 1]);
    return new KafkaConsumer<>(c, new ByteArrayDeserializer(), new ByteArrayDeserializer());
  }

  static Admin admin() {
    return Admin.create(base());
  }

  /**
   * Every partition answers when it returns. Kafka says "created" earlier; if it then refuses the first of several batches in flight and takes the
   * second, an idempotent producer never gets the first one in.
   */
  static String create(String name, int partitions) throws Exception {
    String topic = topic(name);
    try (Admin a = admin()) {
      a.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
      Map<TopicPartition, OffsetSpec> all = new HashMap<>();
      for (TopicPartition p : partitions(topic, partitions)) all.put(p, OffsetSpec.latest());
      eventually(partitions, "partitions that answer", () -> a.listOffsets(all).all().get().size());
    }
    return topic;
  }

  /** `count` records in every partition, value "partition:n". */
  static void fill(String topic, int partitions, int count) throws Exception {
    List<Future<RecordMetadata>> sent = new ArrayList<>();
    try (KafkaProducer<byte[], byte[]> p = producer()) {
      for (int i = 0; i < count; i++) for (int at = 0; at < partitions; at++) sent.add(p.send(new ProducerRecord<>(topic, at, null, bytes(at + ":" + i))));
      p.flush();
      for (Future<RecordMetadata> f : sent) f.get();
    }
  }

  static List<ConsumerRecord<byte[], byte[]>> take(KafkaConsumer<byte[], byte[]> c, int count) {
    List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
    long deadline = System.nanoTime() + CONDITION_S * 1_000_000_000L;
    while (got.size() < count) {
      for (ConsumerRecord<byte[], byte[]> r : c.poll(Duration.ofMillis(200))) got.add(r);
      if (System.nanoTime() > deadline) throw new AssertionError(got.size() + " of " + count + " records");
    }
    return got;
  }

  static byte[] bytes(String s) {
    return s.getBytes(StandardCharsets.UTF_8);
  }

  static String text(byte[] b) {
    return b == null ? null : new String(b, StandardCharsets.UTF_8);
  }
}
