// needs: maps
#define is_filler(m) 0
#define is_filler_part(m) 0
#define filler_size 0
