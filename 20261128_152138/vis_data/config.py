model = dict()
work_dir = ''
