import java.nio.file.*;
import java.time.*;
import java.time.format.DateTimeFormatter;
import java.util.*;
import java.util.regex.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;

/** Kafka's command line tools that use groups: what each prints is checked. */
final class GroupTools extends Harness {
  static void tests() {
    // It mostly waits.
    Running verifiable = begin("tools: verifiable consumers, one of them killed", GroupTools::verifiable);
    test("tools: console consumers share a topic, leave, and go on where they were", GroupTools::console);
    test("tools: consumer-groups lists and describes live and empty groups", GroupTools::describe);
    test("tools: consumer-groups resets offsets in every way", GroupTools::reset);
    test("tools: consumer-groups resets from a file, and what it exported", GroupTools::resetFromFile);
    test("tools: consumer-groups deletes offsets and groups, and refuses where it must", GroupTools::delete);
    test("tools: consumer performance", GroupTools::performance);
    test("tools: __consumer_offsets as Kafka's formatters read it", GroupTools::formatters);
    verifiable.finish();
  }

  private static Tool groups(String... args) throws Exception {
    return Tools.run("ConsumerGroupCommand", args);
  }

  /** A row a partition: "topic partition current end lag", and "-" for what is not known; sorted. */
  private static List<String> described(String group) throws Exception {
    List<String> rows = new ArrayList<>();
    for (Map<String, String> row : groups("--describe", "--group", group).table(group)) {
      rows.add(String.join(" ", row.get("TOPIC"), row.get("PARTITION"), row.get("CURRENT-OFFSET"), row.get("LOG-END-OFFSET"), row.get("LAG")));
    }
    Collections.sort(rows);
    return rows;
  }

  private static void console() throws Exception {
    String topic = create("tool-group", 2), group = topic;
    fill(topic, 2, 5);
    Tool first = Tools.run("ConsoleConsumer", "--topic", topic, "--group", group, "--from-beginning", "--max-messages", "7");
    equal(7, first.lines().size(), "records");
    int sum = 0;
    for (String row : described(group)) sum += Integer.parseInt(row.split(" ")[2]);
    equal(7, sum, "committed");
    // Another goes on with the other three, then waits and is told to stop by its time-out.
    Tool second = Tools.run("ConsoleConsumer", "--topic", topic, "--group", group, "--max-messages", "3");
    List<String> all = new ArrayList<>(first.lines());
    all.addAll(second.lines());
    Collections.sort(all);
    List<String> wanted = new ArrayList<>();
    for (int p = 0; p < 2; p++) for (int i = 0; i < 5; i++) wanted.add(p + ":" + i);
    equal(wanted, all, "each record once");
    equal(List.of(topic + " 0 5 5 0", topic + " 1 5 5 0"), described(group), "described");
    check(groups("--describe", "--group", group).err().contains("Consumer group '" + group + "' has no active members."), "it is empty");
    // Two topics by expression, without a group of one's own.
    String other = create("tool-group-other", 1);
    fill(other, 1, 2);
    equal(12, Tools.run("ConsoleConsumer", "--include", topic + "|" + other, "--from-beginning", "--max-messages", "12").lines().size(), "records of two topics");
  }

  private static void describe() throws Exception {
    String topic = create("tool-describe", 3), live = topic + "-live", empty = topic + "-empty";
    fill(topic, 3, 10);
    try (Admin admin = admin(); Member a = new Member(live, List.of(topic), "client.id", "first"); Member b = new Member(live, List.of(topic), "client.id", "second", "group.instance.id", "fixed")) {
      Member.haveRead(30, a, b);
      Member.stable(topic, 3, new int[] {1, 2}, a, b);
      a.ask(c -> {
        c.commitSync(Map.of(c.assignment().iterator().next(), new OffsetAndMetadata(4)));
        return null;
      });
      TopicPartition at = a.owned.iterator().next();
      TopicPartition committed = null;
      for (TopicPartition p : a.owned) if (Groups.offsets(admin, live).containsKey(p)) committed = p;
      check(committed != null, "nothing committed of " + at);
      admin.alterConsumerGroupOffsets(empty, Map.of(tp(topic, 0), new OffsetAndMetadata(2))).all().get();

      groups("--list").says(Pattern.quote(live)).says(Pattern.quote(empty));
      groups("--list", "--state").says(live + "\\s+Stable").says(empty + "\\s+Empty");
      groups("--list", "--state", "stable").says(live + "\\s+Stable").saysNot(empty + "\\s.*");
      groups("--list", "--type", "classic").says(live + "\\s+Classic").says(empty + "\\s+Classic");
      groups("--list", "--type", "consumer").saysNot(live + "\\s.*");
      Tools.run("GroupsCommand", "--list").says(live + "\\s+Classic\\s+consumer");
      Tools.run("GroupsCommand", "--list", "--consumer").says(live + "\\s+Classic\\s+consumer").says(empty + "\\s+Classic.*");

      List<Map<String, String>> rows = groups("--describe", "--group", live).table(live);
      equal(3, rows.size(), "rows");
      for (Map<String, String> row : rows) {
        TopicPartition p = tp(row.get("TOPIC"), Integer.parseInt(row.get("PARTITION")));
        Member owner = a.owned.contains(p) ? a : b;
        equal(p.equals(committed) ? "4 10 6" : "- 10 -", row.get("CURRENT-OFFSET") + " " + row.get("LOG-END-OFFSET") + " " + row.get("LAG"), "offsets of " + p);
        equal(owner.id(), row.get("CONSUMER-ID"), "owner of " + p);
        equal(owner == a ? "first" : "second", row.get("CLIENT-ID"), "client of " + p);
        check(row.get("HOST").startsWith("/"), "host " + row);
      }
      Tool members = groups("--describe", "--group", live, "--members", "--verbose");
      equal(3, members.lines().size(), "a headline and two members");
      for (Member m : List.of(a, b)) {
        StringBuilder list = new StringBuilder();
        m.owned.stream().mapToInt(TopicPartition::partition).sorted().forEach(p -> list.append(list.length() == 0 ? "" : ",").append(p));
        members.says(live + "\\s+" + m.id() + "\\s+" + (m == b ? "fixed\\s+" : "") + "/\\S+\\s+" + (m == a ? "first" : "second") + "\\s+" + m.owned.size() + "\\s.*\\b" + topic + ":" + list + "\\b.*");
      }
      groups("--describe", "--group", live, "--members").says(live + "\\s+" + b.id() + "\\s+fixed\\s+/\\S+\\s+second\\s+\\d.*");
      String port = broker.substring(broker.lastIndexOf(':') + 1);
      groups("--describe", "--group", live, "--state").says(live + "\\s+\\S+:" + port + "\\s+\\(\\d+\\)\\s+range\\s+Stable\\s+2");
      groups("--describe", "--group", empty, "--state").says(empty + "\\s+\\S+:" + port + "\\s+\\(\\d+\\)\\s+-\\s+Empty\\s+0");
      equal(List.of(topic + " 0 2 10 8"), described(empty), "offsets of the empty group");
      groups("--describe", "--all-groups").says(empty + "\\s+" + topic + "\\s+0\\s+2\\s+10\\s+8\\s.*").says(live + "\\s+" + topic + "\\s.*");
      groups("--describe", "--all-groups", "--state").says(live + "\\s.*Stable.*").says(empty + "\\s.*Empty.*");
      groups("--describe", "--group", topic + "-none").says("Error: .*GroupIdNotFoundException.*");
      b.close();
      admin.removeMembersFromConsumerGroup(live, new RemoveMembersFromConsumerGroupOptions()).all().get();
    }
  }

  private static List<String> resetTo(String group, String... args) throws Exception {
    List<String> all = new ArrayList<>(List.of("--reset-offsets", "--group", group));
    all.addAll(List.of(args));
    List<String> rows = new ArrayList<>();
    for (Map<String, String> row : groups(all.toArray(new String[0])).table(group)) rows.add(row.get("TOPIC") + " " + row.get("PARTITION") + " " + row.get("NEW-OFFSET"));
    Collections.sort(rows);
    return rows;
  }

  private static void reset() throws Exception {
    String topic = create("tool-reset", 2), group = topic;
    long start = System.currentTimeMillis() - 10_000_000;
    try (KafkaProducer<byte[], byte[]> p = producer()) {
      for (int i = 0; i < 20; i++) p.send(new ProducerRecord<>(topic, i % 2, start + i / 2 * 1_000_000, null, bytes("" + i)));
    }
    try (Admin admin = admin()) {
      admin.deleteRecords(Map.of(tp(topic, 1), RecordsToDelete.beforeOffset(3))).all().get();
      // A group that is not there is made by its first reset.
      equal(List.of(topic + " 0 10", topic + " 1 10"), resetTo(group, "--topic", topic, "--to-latest", "--execute"), "to latest");
      equal(Map.of(tp(topic, 0), 10L, tp(topic, 1), 10L), Groups.offsets(admin, group), "latest");
      equal(List.of(topic + " 0 0", topic + " 1 3"), resetTo(group, "--topic", topic, "--to-earliest", "--dry-run"), "to earliest, dry");
      equal(Map.of(tp(topic, 0), 10L, tp(topic, 1), 10L), Groups.offsets(admin, group), "a dry run changes nothing");
      equal(List.of(topic + " 0 0", topic + " 1 3"), resetTo(group, "--all-topics", "--to-earliest", "--execute"), "to earliest");
      equal(Map.of(tp(topic, 0), 0L, tp(topic, 1), 3L), Groups.offsets(admin, group), "earliest");
      equal(List.of(topic + " 0 6"), resetTo(group, "--topic", topic + ":0", "--to-offset", "6", "--execute"), "to an offset, one partition");
      equal(Map.of(tp(topic, 0), 6L, tp(topic, 1), 3L), Groups.offsets(admin, group), "one partition");
      equal(List.of(topic + " 0 10", topic + " 1 10"), resetTo(group, "--topic", topic + ":0,1", "--to-offset", "77", "--execute"), "past the end is the end");
      equal(List.of(topic + " 0 0", topic + " 1 3"), resetTo(group, "--topic", topic, "--to-offset", "0", "--execute"), "before the start is the start");
      equal(List.of(topic + " 0 4", topic + " 1 7"), resetTo(group, "--topic", topic, "--shift-by", "4", "--execute"), "shift");
      equal(List.of(topic + " 0 3", topic + " 1 6"), resetTo(group, "--topic", topic, "--shift-by", "-1", "--execute"), "shift back");
      equal(List.of(topic + " 0 3", topic + " 1 6"), resetTo(group, "--all-topics", "--to-current", "--execute"), "to current");
      String when = LocalDateTime.ofInstant(Instant.ofEpochMilli(start + 7_500_000), ZoneId.of("UTC")).format(DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS")) + "+00:00";
      equal(List.of(topic + " 0 8", topic + " 1 8"), resetTo(group, "--topic", topic, "--to-datetime", when, "--execute"), "to a time");
      equal(List.of(topic + " 0 10", topic + " 1 10"), resetTo(group, "--topic", topic, "--to-datetime", "2100-01-01T00:00:00.000", "--execute"), "to a time past the end");
      // 10,000 s ago plus 5,500 s: the sixth second to the seventh, whatever the seconds since the start.
      equal(List.of(topic + " 0 6", topic + " 1 6"), resetTo(group, "--topic", topic, "--by-duration", "PT4500S", "--execute"), "by duration");
      equal(Map.of(tp(topic, 0), 6L, tp(topic, 1), 6L), Groups.offsets(admin, group), "at last");
      try (Member a = new Member(group, List.of(topic))) {
        Member.haveRead(8, a);
        check(Tools.run("ConsumerGroupCommand", "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute").out().contains("Error: Assignments can only be reset if the group '" + group + "' is inactive, but the current state is Stable."), "reset of a live group");
        equal(Map.of(tp(topic, 0), 6L, tp(topic, 1), 6L), Groups.offsets(admin, group), "it changed nothing");
      }
    }
  }

  private static void resetFromFile() throws Exception {
    String topic = create("tool-plan", 2), group = topic;
    fill(topic, 2, 10);
    Path file = Files.createTempFile("plan", ".csv");
    try (Admin admin = admin()) {
      admin.alterConsumerGroupOffsets(group, Map.of(tp(topic, 0), new OffsetAndMetadata(4), tp(topic, 1), new OffsetAndMetadata(5))).all().get();
      Tool exported = groups("--reset-offsets", "--group", group, "--all-topics", "--to-current", "--dry-run", "--export").says("\"" + topic + "\",0,4").says("\"" + topic + "\",1,5");
      Files.writeString(file, exported.out().replace(",4", ",8"));
      equal(List.of(topic + " 0 8", topic + " 1 5"), resetTo(group, "--from-file", file.toString(), "--execute"), "from a file");
      equal(Map.of(tp(topic, 0), 8L, tp(topic, 1), 5L), Groups.offsets(admin, group), "offsets");
      // Two groups at once.
      Files.writeString(file, group + "," + topic + ",0,1\n" + group + "-2," + topic + ",1,2\n");
      groups("--reset-offsets", "--group", group, "--group", group + "-2", "--from-file", file.toString(), "--execute");
      equal(Map.of(tp(topic, 0), 1L, tp(topic, 1), 5L), Groups.offsets(admin, group), "the first group");
      equal(Map.of(tp(topic, 1), 2L), Groups.offsets(admin, group + "-2"), "the second group");
    } finally {
      Files.delete(file);
    }
  }

  private static void delete() throws Exception {
    String topic = create("tool-drop", 2), group = topic, live = topic + "-live";
    try (Admin admin = admin(); Member a = new Member(live, List.of(topic))) {
      Member.stable(topic, 2, new int[] {2}, a);
      a.ask(c -> {
        c.commitSync(Map.of(tp(topic, 0), new OffsetAndMetadata(0)));
        return null;
      });
      for (String g : List.of(group, group + "-2")) admin.alterConsumerGroupOffsets(g, Map.of(tp(topic, 0), new OffsetAndMetadata(0), tp(topic, 1), new OffsetAndMetadata(0))).all().get();
      groups("--delete-offsets", "--group", group, "--topic", topic + ":1").says("Request succeeded for deleting offsets from group " + group + "\\.").says(topic + "\\s+1\\s+Successful");
      equal(Map.of(tp(topic, 0), 0L), Groups.offsets(admin, group), "what is left");
      groups("--delete-offsets", "--group", live, "--topic", topic).says("Error: .*").says(topic + "\\s+0\\s+Error: .*GroupSubscribedToTopicException.*");
      groups("--delete-offsets", "--group", topic + "-none", "--topic", topic).says(topic + "\\s+0\\s+Error: .*GroupIdNotFoundException.*");
      groups("--delete-offsets", "--group", group, "--topic", topic + "-none").says(topic + "-none\\s+-\\s+Error: .*UnknownTopicOrPartitionException.*");
      groups("--delete", "--group", live).says("Error: Deletion of some consumer groups failed:").says("\\* Group '" + live + "' could not be deleted due to: .*GroupNotEmptyException.*");
      groups("--delete", "--group", topic + "-none").says("\\* Group '" + topic + "-none' could not be deleted due to: .*GroupIdNotFoundException.*");
      groups("--delete", "--group", group, "--group", group + "-2").says("Deletion of requested consumer groups \\('" + group + "(-2)?', '" + group + "(-2)?'\\) was successful\\.");
      groups("--list").saysNot(Pattern.quote(group)).saysNot(Pattern.quote(group + "-2")).says(Pattern.quote(live));
    }
  }

  private static void verifiable() throws Exception {
    String topic = create("tool-verify", 4), group = topic;
    Path config = Files.createTempFile("consumer", ".properties");
    Files.writeString(config, "heartbeat.interval.ms=100\n");
    String[] args = Tools.at("--topic", topic, "--group-id", group, "--session-timeout", "6000", "--verbose", "--command-config", config.toString());
    Tool killed = Tool.alone("VerifiableConsumer", args);
    try {
      killed.prints(1, ".*\"name\":\"partitions_assigned\",\"partitions\":\\[(\\{[^}]*\\},?){4}\\].*");
      fill(topic, 4, 10);
      killed.prints(40, ".*\"name\":\"record_data\".*").prints(1, ".*\"name\":\"offsets_committed\",.*\"success\":true.*");
      eventually(List.of(topic + " 0 10 10 0", topic + " 1 10 10 0", topic + " 2 10 10 0", topic + " 3 10 10 0"), "committed", () -> described(group));
      // Static, in this JVM, and it ends by itself after eighty records: twenty as one of two, the rest alone.
      List<String> more = new ArrayList<>(List.of(args));
      more.addAll(List.of("--group-instance-id", "second", "--max-messages", "80"));
      Tool second = Tool.start("VerifiableConsumer", more.toArray(new String[0]));
      second.prints(1, ".*\"name\":\"partitions_assigned\",\"partitions\":\\[(\\{[^}]*\\},?){2}\\].*");
      killed.prints(1, ".*\"name\":\"partitions_revoked\".*").prints(1, ".*\"name\":\"partitions_assigned\",\"partitions\":\\[(\\{[^}]*\\},?){2}\\].*");
      fill(topic, 4, 10);
      second.prints(20, ".*\"name\":\"record_data\".*");
      killed.prints(60, ".*\"name\":\"record_data\".*").prints(1, ".*\"name\":\"offsets_committed\",\"offsets\":\\[[^\\]]*\"offset\":20[^\\]]*\\],\"success\":true.*");
      eventually(List.of(topic + " 0 20 20 0", topic + " 1 20 20 0", topic + " 2 20 20 0", topic + " 3 20 20 0"), "committed by both", () -> described(group));
      killed.kill();
      second.prints(1, ".*\"name\":\"partitions_assigned\",\"partitions\":\\[(\\{[^}]*\\},?){4}\\].*");
      fill(topic, 4, 15);
      second.end(0).says(".*\"name\":\"shutdown_complete\".*");
      equal(80, second.count(".*\"name\":\"record_data\".*"), "records of the second");
      second.saysNot(".*\"success\":false.*");
      equal(List.of(topic + " 0 35 35 0", topic + " 1 35 35 0", topic + " 2 35 35 0", topic + " 3 35 35 0"), described(group), "committed at last");
    } finally {
      killed.kill();
      Files.delete(config);
      try (Admin admin = admin()) {
        admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
      }
    }
  }

  private static void performance() throws Exception {
    String topic = create("tool-consume", 3), group = topic;
    fill(topic, 3, 5000);
    Tool tool = Tools.run("ConsumerPerformance", "--topic", topic, "--num-records", "15000", "--group", group).says("start\\.time, end\\.time, data\\.consumed\\.in\\.MB, .*");
    List<String> lines = tool.lines();
    equal("15000", lines.get(lines.size() - 1).split(", ")[4], "records");
    int sum = 0;
    for (String row : described(group)) sum += Integer.parseInt(row.split(" ")[2]);
    equal(15000, sum, "committed");
  }

  private static void formatters() throws Exception {
    String topic = create("tool-format", 1), group = topic;
    fill(topic, 1, 3);
    int generation;
    String id;
    try (Admin admin = admin(); Member a = new Member(group, List.of(topic), "group.instance.id", "fixed")) {
      Member.haveRead(3, a);
      a.ask(c -> {
        c.commitSync(Map.of(tp(topic, 0), new OffsetAndMetadata(3, Optional.of(0), "a word")));
        return null;
      });
      generation = a.generation();
      id = a.id();
      a.close();
      admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
    }
    TopicPartition partition;
    long records;
    try (Admin admin = admin()) {
      partition = tp("__consumer_offsets", Math.abs(group.hashCode()) % admin.describeTopics(List.of("__consumer_offsets")).allTopicNames().get().get("__consumer_offsets").partitions().size());
      records = admin.listOffsets(Map.of(partition, OffsetSpec.latest())).partitionResult(partition).get().offset() - admin.listOffsets(Map.of(partition, OffsetSpec.earliest())).partitionResult(partition).get().offset();
    }
    String[] all = {"--topic", partition.topic(), "--partition", "" + partition.partition(), "--offset", "earliest", "--max-messages", "" + records, "--timeout-ms", "20000", "--formatter"};
    String offsets = Tools.run("ConsoleConsumer", with(all, "org.apache.kafka.tools.consumer.OffsetsMessageFormatter")).out();
    found(offsets, "\\{\"key\":\\{\"type\":1,\"data\":\\{\"group\":\"" + group + "\",\"topic\":\"" + topic + "\",\"partition\":0\\}\\},\"value\":\\{\"version\":\\d,\"data\":\\{\"offset\":3,\"leaderEpoch\":0,\"metadata\":\"a word\",\"commitTimestamp\":\\d{13}");
    String metadata = Tools.run("ConsoleConsumer", with(all, "org.apache.kafka.tools.consumer.GroupMetadataMessageFormatter")).out();
    found(metadata, "\\{\"key\":\\{\"type\":2,\"data\":\\{\"group\":\"" + group + "\"\\}\\},\"value\":\\{\"version\":\\d,\"data\":\\{\"protocolType\":\"consumer\",\"generation\":" + generation
        + ",\"protocol\":\"range\",\"leader\":\"" + Pattern.quote(id) + "\",\"currentStateTimestamp\":\\d{13},\"members\":\\[\\{\"memberId\":\"" + Pattern.quote(id) + "\",\"groupInstanceId\":\"fixed\",\"clientId\":\"[^\"]+\",\"clientHost\":\"/[^\"]+\",\"rebalanceTimeout\":300000,\"sessionTimeout\":20000,\"subscription\":\"[^\"]+\",\"assignment\":\"[^\"]+\"\\}\\]");
    found(metadata, "\\{\"key\":\\{\"type\":2,\"data\":\\{\"group\":\"" + group + "\"\\}\\},\"value\":\\{\"version\":\\d,\"data\":\\{\"protocolType\":\"consumer\",\"generation\":" + (generation + 1) + ",\"protocol\":null,\"leader\":null,\"currentStateTimestamp\":\\d{13},\"members\":\\[\\]");
  }

  private static String[] with(String[] args, String last) {
    String[] all = Arrays.copyOf(args, args.length + 1);
    all[args.length] = last;
    return all;
  }

  private static void found(String text, String regex) {
    if (Pattern.compile(regex).matcher(text).find()) return;
    // The part that names this group is what is worth to see.
    Matcher near = Pattern.compile(".{0,40}tool-format.{0,900}").matcher(text);
    throw new AssertionError("nothing like " + regex + " in " + text.length() + " characters, but " + (near.find() ? near.group() : "nothing of this group"));
  }
}
