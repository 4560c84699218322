"""Writes the golden partition to a running broker: make.py HOST:PORT. Needs confluent-kafka. Writes records.txt, what a consumer saw."""
import sys
from confluent_kafka import Producer, TopicPartition, KafkaError, Consumer
from confluent_kafka.admin import AdminClient, NewTopic, ConfigResource
B = sys.argv[1]
a=AdminClient({'bootstrap.servers':B})
fs=a.create_topics([NewTopic('golden',1,1,config={'index.interval.bytes':'1000','segment.index.bytes':'4096','segment.ms':'3600000','message.timestamp.after.max.ms':'9223372036854775807','retention.ms':'-1'})])
for f in fs.values(): f.result()
T0=1_700_000_000_000
n=0
def send(p,count,val):
    global n
    for i in range(count):
        k=None if n%5==0 else b'key-%d'%(n%13)
        v=None if n%7==3 else (b'' if n%11==4 else val(n))
        h=[('h%d'%j, None if j==1 else b'value-%d-%d'%(n,j)) for j in range(n%4)]
        p.produce('golden',key=k,value=v,headers=h or None,timestamp=T0+n*10,partition=0)
        n+=1
    assert p.flush(30)==0
val=lambda n: (b'record %d of the golden segment, '%n)*(1+n%4)
for codec in ['none','gzip','snappy','lz4','zstd']:
    p=Producer({'bootstrap.servers':B,'compression.type':codec,'linger.ms':50,'batch.num.messages':8})
    send(p,40,val)
p=Producer({'bootstrap.servers':B,'enable.idempotence':True,'linger.ms':20,'batch.num.messages':5})
send(p,30,val)
t=Producer({'bootstrap.servers':B,'transactional.id':'tx'}); t.init_transactions()
t.begin_transaction(); send(t,5,val); t.commit_transaction()
t.begin_transaction(); send(t,4,val); t.abort_transaction()
# a second segment: record timestamps an hour on
T0+=4*3600*1000
p=Producer({'bootstrap.servers':B,'compression.type':'lz4','linger.ms':50,'batch.num.messages':10})
send(p,20,val)
p=Producer({'bootstrap.servers':B,'compression.type':'none','linger.ms':50,'batch.num.messages':10})
send(p,20,val)
# what a consumer sees
c=Consumer({'bootstrap.servers':B,'group.id':'g','enable.auto.commit':False,'isolation.level':'read_uncommitted','enable.partition.eof':True})
c.assign([TopicPartition('golden',0,0)])
out=open('records.txt','w'); seen=0
hx=lambda b:'-' if b is None else ('.' + b.hex())
while True:
    m=c.poll(10)
    assert m is not None
    if m.error():
        assert m.error().code()==KafkaError._PARTITION_EOF; break
    out.write(f"{m.offset()} {m.timestamp()[1]} {hx(m.key())} {hx(m.value())} {','.join(k+'='+hx(v) for k,v in (m.headers() or []))}\n"); seen+=1
print(n,seen,c.get_watermark_offsets(TopicPartition('golden',0)))
c.close()
